"""A series' past from Prometheus, in pieces that its limit of points a query allows."""

import math
from collections.abc import Callable
from datetime import UTC, datetime

from healer.errors import Refused, ServerFailed, TimedOut, Unauthorized, Unreachable

#: Prometheus answers at most 11,000 points a series and query.
PIECE_POINTS = 10_000
#: Seconds one piece may take.
TIMEOUT_SECONDS = 60


def read_history(
    url: str,
    query: str,
    start: float,
    end: float,
    *,
    step: float = 60.0,
    told: Callable[[float], None] | None = None,
) -> list[tuple[float, float]]:
    """(Unix seconds, value) of the one series that `query` gives between `start` and `end`.

    NaN and infinite samples are left out. Raises Refused when the query is wrong or gives several
    series, else the error of the network.
    """
    from prometheus_api_client import PrometheusConnect
    from prometheus_api_client.exceptions import PrometheusApiClientException
    from requests import RequestException, Timeout
    from urllib3.util.retry import Retry

    client = PrometheusConnect(url.rstrip("/"), timeout=TIMEOUT_SECONDS, retry=Retry(1))
    pieces = max(1, math.ceil((end - start) / step / PIECE_POINTS))
    samples: list[tuple[float, float]] = []
    for piece in range(pieces):
        begin = start + piece * PIECE_POINTS * step
        until = min(end, begin + (PIECE_POINTS - 1) * step)
        try:
            found = client.custom_query_range(
                query, datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(until, UTC),
                f"{step:.0f}",
            )  # fmt: skip
        except Timeout as error:
            raise TimedOut(
                f"{url}: no answer within {TIMEOUT_SECONDS} s; ask for fewer days"
            ) from (error)
        except RequestException as error:
            raise Unreachable(f"{url}: {error}; is this the address of Prometheus?") from error
        except PrometheusApiClientException as error:
            raise _said_no(url, str(error)) from error
        except (KeyError, ValueError) as error:
            raise ServerFailed(
                f"{url}: the answer is none of Prometheus ({error!r})", may_have_happened=False
            ) from error
        if len(found) > 1:
            raise Refused(
                f"{url}: {query!r} gives {len(found)} series, such as {found[0]['metric']} and "
                f"{found[1]['metric']}; write it as one, for example sum({query})"
            )
        for row in found:
            for at, text in row["values"]:
                value = float(text)
                if math.isfinite(value):
                    samples.append((float(at), value))
        if told:
            told((piece + 1) / pieces)
    return samples


def _said_no(url: str, said: str) -> Refused | Unauthorized | ServerFailed:
    if "Code 401" in said or "Code 403" in said:
        return Unauthorized(f"{url}: {said}; give an address that lets this machine read")
    if "Code 4" in said:
        return Refused(f"{url}: {said}; check --query")
    return ServerFailed(f"{url}: {said}", may_have_happened=False)
