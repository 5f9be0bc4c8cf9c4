"""What Schemathesis has to be told beside the document."""

import schemathesis
from hypothesis import strategies as st

LINES = "application/x-ndjson"


@schemathesis.serializer(LINES)
def lines(ctx, value):
    return value.encode()


@schemathesis.hook
def filter_case(ctx, case):
    """A schema cannot say what stands in lines: random text is none. `tests/it` asks with lines."""
    return case.media_type != LINES


# No time of a fact may be in the future.
schemathesis.openapi.format(
    "date-time",
    st.datetimes().filter(lambda it: 1970 <= it.year < 2026).map(lambda it: it.isoformat() + "Z"),
)


# What is no identifier is refused where its digits could be a phone number.
LABELS = {"acquisition_channel", "lead_source", "model_version", "segment"}


@schemathesis.hook
def map_body(ctx, body):
    """A schema takes 7.0 for a whole number. An identifier with a fraction is refused: nobody knows its digits."""
    if isinstance(body, float) and body.is_integer() and abs(body) < 1 << 64:
        return int(body)
    if isinstance(body, list):
        return [map_body(ctx, each) for each in body]
    if isinstance(body, dict):
        body = {name: map_body(ctx, each) for name, each in body.items()}
        return {name: each % 1000 if name in LABELS and type(each) is int else each for name, each in body.items()}
    return body
