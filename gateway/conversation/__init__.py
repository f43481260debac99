"""Turn-taking: tables and policies that are told the time. Pure."""
