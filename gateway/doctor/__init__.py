"""The doctor: why a first caller hears nothing, asked of a running gateway as Twilio would."""
