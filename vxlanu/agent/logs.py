"""Where the agent's events go: one line each on stderr, as text or JSON.

Every line has a stable `event` name beside the sentence for people, so that a log can be searched by a program. No line
per packet, ever.
"""

from __future__ import annotations

import json
import logging
import sys
import time

OF_A_LIBRARY = "library"


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{stamp}.{int(record.msecs):03d} {record.levelname.lower():7} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        body = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", OF_A_LIBRARY),
            "message": record.getMessage(),
        }
        if body["event"] == OF_A_LIBRARY:
            body["logger"] = record.name
        if record.exc_info:
            body["traceback"] = self.formatException(record.exc_info)
        return json.dumps(body)


def set_up(level: str, style: str) -> None:
    """Send everything from `level` on to stderr; `style` is text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
