"""Twilio's REST API, as far as a call needs it: end it, or hand it over.

A media stream cannot do either: when the socket closes, Twilio goes on with whatever the TwiML
says after ``<Connect>``. So the call itself is updated. Both updates say how the call shall be,
not what shall change, so they may be repeated safely; a call that is over already is as it shall
be, whatever status Twilio tells that with.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

import orjson

from gateway.errors import ProviderError
from gateway.ops.log import Log
from gateway.providers.http_service import Answer, HttpService, Question

WHAT = "Twilio"
TIMEOUT_MS = 3_000
_NOT_FOUND = 404
#: "Call is not in-progress. Cannot redirect."
_NOT_IN_PROGRESS = 21220


class TwilioRest:
    """One account's calls."""

    def __init__(self, base_url: str, account_sid: str, auth_token: str) -> None:
        self._calls = f"/2010-04-01/Accounts/{account_sid}/Calls/"
        self._service = HttpService(
            WHAT,
            base_url,
            idempotent=True,
            headers={
                "Accept": "application/json",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            auth=(account_sid, auth_token),
        )

    async def hang_up(self, call_id: str, log: Log) -> None:
        """End a call. Raises ProviderError."""
        answer = await self._update(call_id, {"Status": "completed"}, log)
        if not (answer.is_success or _is_over(answer)):
            raise _refusal(answer)

    async def transfer(self, call_id: str, number: str, log: Log) -> None:
        """Have a call go on with a number. Raises ProviderError, also when the call is over."""
        twiml = f"<Response><Dial>{escape(number)}</Dial></Response>"
        answer = await self._update(call_id, {"Twiml": twiml}, log)
        if _is_over(answer):
            raise ProviderError(f"{WHAT}: the call is over")
        if not answer.is_success:
            raise _refusal(answer)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._service.aclose()

    async def _update(self, call_id: str, form: dict[str, str], log: Log) -> Answer:
        path = f"{self._calls}{quote(call_id, safe='')}.json"  # the id is what a peer says it is
        return await self._service.post(
            Question(path, urlencode(form).encode(), {}), TIMEOUT_MS, log, lambda answer: answer
        )


def _is_over(answer: Answer) -> bool:
    return answer.status == _NOT_FOUND or _code(answer) == _NOT_IN_PROGRESS


def _refusal(answer: Answer) -> ProviderError:
    return ProviderError(f"{WHAT}: answered {answer.status}, code {_code(answer)}")


def _code(answer: Answer) -> int:
    """Twilio's own number for what is wrong; 0 for none."""
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return 0
    code = found.get("code") if isinstance(found, dict) else None
    return code if isinstance(code, int) and not answer.is_success else 0
