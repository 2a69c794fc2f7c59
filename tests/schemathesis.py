"""Schemathesis: bodies of remote write are bytes, which it sends as they are."""

import schemathesis


@schemathesis.serializer("application/x-protobuf")
def as_they_are(_context, value):
    return value if isinstance(value, bytes) else str(value).encode()
