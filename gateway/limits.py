"""Every bound of the gateway, with its reason. Relations between them are asserted."""

from __future__ import annotations

from audio.format import FRAME_MS

# The HTTP head before a socket becomes WebSocket or a request (bytes, count, ms).
HEAD_BYTES_MAX = 8 * 1024
HEADERS_MAX = 64
HEAD_TIMEOUT_MS = 5_000
BODY_BYTES_MAX = 64 * 1024

# WebSocket messages: a Twilio frame is 0.4 kB; 30 s of audio in one message is nobody's friend.
MESSAGE_BYTES_MAX = 64 * 1024
FRAGMENTS_PER_MESSAGE_MAX = 16
PAYLOAD_BYTES_MAX = 48 * 1024
START_TIMEOUT_MS = 5_000

# Peers are looked at once a second: a tenth of them with each beat of their worker.
LOOK_TURNS = 10

# Control frames (pings), and frames too small to carry 20 ms of audio, of one connection.
CONTROL_FRAMES_PER_SECOND_MAX = 10
CONTROL_FRAMES_BURST = 30
SMALL_FRAMES_PER_SECOND_MAX = 300  # 64 calls on one socket, each with its marks and digits
SMALL_FRAMES_BURST = 600

# What one call may send: twice real time in the long run, five seconds of audio at once; in bytes
# the widest encoding, 16 bits at 16 kHz. Judged once a second: who is over is not read from until
# the next look; three times so with less than ten quiet looks between is a flood (1008).
MEDIA_FRAMES_PER_SECOND_MAX = 100
MEDIA_FRAMES_BURST = 250
RECEIVED_BYTES_PER_SECOND_MAX = 128 * 1024
RECEIVED_BYTES_BURST = 512 * 1024
FLOOD_LOOKS_MAX = 3
FLOOD_FORGIVEN_AFTER_LOOKS = 10
MESSAGE_LOOKS_MAX = 5  # a fragmented message is complete by then (1008)

# One address (IPv4, or an IPv6 network of 64 bits), at one worker; never a trusted proxy's.
ADDRESS_KNOCKS_PER_SECOND_MAX = 20
ADDRESS_KNOCKS_BURST = 100
ADDRESS_LIVE_MAX = 200
ADDRESSES_MAX = 4_096

# A stream's address is good for this long, and once.
TOKEN_TTL_MS = 60_000

# What a peer that does not read may make us hold; then it hears nothing more (its audio would be
# late anyway), and is sent away (1011) when that lasts. With twice as much waiting it is cut off.
WRITE_BUFFER_BYTES_MAX = 64 * 1024
SLOW_CONSUMER_MS = 10_000
SEND_BUFFER_BYTES = 32 * 1024
# The loop reads what a socket holds before it turns to the next one (libuv: as long as its buffer
# of 256 KiB gets full, 32 times), so what it may hold is how long others wait: 5 to 10 ms.
RECEIVE_BUFFER_BYTES = 64 * 1024
# A read of more than that is a burst of seconds, or a flood: who is greedy waits a moment.
GULP_BYTES = 32 * 1024
GULP_PAUSE_MS = 50
LISTEN_BACKLOG = 4096

# A peer is pinged this often and cut off when a whole period brought nothing.
IDLE_PING_MS = 20_000
CLOSE_TIMEOUT_MS = 5_000
EXPEL_TIMEOUT_MS = 1_000  # who is sent away is not read from any more, so its answer is not awaited

# Protocol mistakes a connection may make in such a time before it is closed (1007), and how often
# one is logged.
BAD_MESSAGES_MAX = 50
BAD_MESSAGES_LOOKS = 10
WARNINGS_PER_SECOND_MAX = 5

# One call.
UTTERANCE_MS_MAX = 30_000
CALLER_BACKLOG_MS_MAX = 3_000  # audio that arrived faster than real time and waits for its ring
PRE_ROLL_MS = 300
CLAUSE_CHARS_MAX = 400
DIGITS_MAX = 32
DIGITS_PAUSE_MS = 2_500  # a keypad entry without # is over after this
HISTORY_TURNS_MAX = 200
SPECULATE_AFTER_MS = 200  # a pause this long: the text may be needed soon
ACKNOWLEDGEMENT_MS_MAX = 720  # 600 of speech, and what the detector hears on: longer is no "mhm"
SILENT_START_MS_MAX = 1_000  # silence before a reply's first sound that is left out
SPEECH_AHEAD_MS_MAX = 2_000  # of each clause that was synthesised and not given to the player yet
CLOSING_MS_MAX = 30_000  # the last words are heard by then, or will not be
CALLS_PER_CONNECTION_MAX = 64

# One turn: until the first words of its answer, whoever gives them; less is no time to try.
TURN_BUDGET_MS = 8_000
STAGE_MS_MIN = 200

# Who has hung up is understood and taken down for so long, each: nobody waits, but a worker's end.
LAST_WORDS_MS_MAX = 2_000

# Playout: how far ahead of the caller's ear we send, and how much goes into one message.
PLAYOUT_LEAD_MS = 200
MESSAGE_MS_MAX = 100
PLAYOUT_CUSHION_MS = 60  # with this much to play, the carrier can wait for a full message
ENCODED_MS_MAX = 500  # encoded audio that waits for its time; who speaks faster is made to wait
MARK_EVERY_MS = 500
MARKS_OUTSTANDING_MAX = 256
MARK_ROUND_TRIP_MS_MAX = 10_000  # a mark that is timed is given up after this, for the next one
HEARD_MARGIN_MS = 1_000  # a carrier that acknowledges nothing is believed to have played by then

# The door: how much is accepted at once before calls are served again, and what may wait.
ACCEPTS_PER_WAKE_MAX = 16
ACCEPT_PAUSE_MS = 100  # no descriptor was free: a listener that stays readable must not spin us
TLS_HANDSHAKE_TIMEOUT_MS = 5_000
RETRY_AFTER_S = 5

# Admission: a worker takes no more calls when its last beats, or its DSP's passes, were late.
LAG_BEATS = 20  # 2 s of them
LAG_MS_MAX = 30
LAG_BEATS_LATE_MAX = 10  # of LAG_BEATS: one more, and their median is above LAG_MS_MAX
DSP_LAG_MS_MAX = (
    30  # for a tick of 10; the 99th percentile or 15 ms turned callers away for hiccups
)
DSP_LAG_BEATS = 30  # 3 s: a percentile over 2 s that stays high, not after one hiccup
DSP_LAG_BEATS_LATE_MAX = 20
DESCRIPTORS_PERCENT_MAX = 90
REOPEN_AFTER_MS = 5_000

# Claims across workers: ids of live calls.
CLAIMS_MAX = 65_536
CLAIM_TTL_MS = 60_000
CLAIM_RENEW_MS = 20_000
RENEWALS_PER_BEAT_MAX = 64
CLAIM_COPIES = 2  # workers that know of one claim: the death of either loses none
ANSWER_TIMEOUT_MS = 50
QUESTIONS_OUTSTANDING_MAX = 4_096
EARLY_EVENTS_MAX = 256  # of a call whose claims are still being asked for

# Single-use tokens. A home that stalls is waited for: a refusal would cost its caller the call.
SINGLE_USE_KEYS_MAX = 65_536
TOKEN_VALUE_BYTES_MAX = 512
REDEEM_TIMEOUT_MS = 300

# Providers, of one worker.
PROVIDER_REQUESTS_MAX = 128  # that wait for a first answer, a server; more wait for their turn
PROVIDER_TEXT_BYTES_MAX = 1024 * 1024
PROVIDER_AUDIO_BYTES_MAX = 16 * 1024 * 1024  # five minutes of 24 kHz PCM
CHAT_EXCHANGES_MAX = 40  # the model forgets what was said before these
CHAT_REPLY_TOKENS_MAX = 400  # two minutes of speech
CHAT_ROUNDS_MAX = 3  # requests a turn: what a tool says is answered, but not for ever
TTS_CACHE_BYTES_MAX = 32 * 1024 * 1024  # eleven minutes of speech
TTS_CACHE_SENTENCE_BYTES_MAX = 2 * 1024 * 1024  # 40 s
PREPARED_CLAUSES_MAX = 400  # spoken before anybody calls; 60 are in one profile of three languages
TTS_CACHE_SEEN_MAX = 4_096  # sentences remembered as said once

# The end of a worker.
GOODBYE_MS_MAX = 8_000
CONNECTIONS_END_MS_MAX = 1_000

assert MESSAGE_MS_MAX % FRAME_MS == 0
assert PLAYOUT_CUSHION_MS + MESSAGE_MS_MAX <= PLAYOUT_LEAD_MS, "or a full message never fits"
assert PLAYOUT_LEAD_MS >= MESSAGE_MS_MAX + FRAME_MS, "a full message must fit into the lead"
assert MARK_EVERY_MS % FRAME_MS == 0
assert PAYLOAD_BYTES_MAX * 4 // 3 <= MESSAGE_BYTES_MAX, "a payload must fit into a message"
assert max(LAG_MS_MAX, DSP_LAG_MS_MAX) < PLAYOUT_CUSHION_MS, (
    "new calls are refused before it is heard"
)
assert LAG_BEATS_LATE_MAX * 2 == LAG_BEATS, "the median"
assert 2 * CLAIM_RENEW_MS < CLAIM_TTL_MS, "one renewal may be lost"
assert MEDIA_FRAMES_PER_SECOND_MAX * FRAME_MS == 2_000, "twice real time"
assert RECEIVED_BYTES_BURST >= 2 * WRITE_BUFFER_BYTES_MAX, "a read is never a flood by itself"
assert EARLY_EVENTS_MAX * FRAME_MS > 2 * CLAIM_COPIES * ANSWER_TIMEOUT_MS, "nothing early is lost"
