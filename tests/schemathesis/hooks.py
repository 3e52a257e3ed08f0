"""What the document cannot say in JSON Schema, told to schemathesis."""

from datetime import datetime, timedelta, timezone

import schemathesis
from hypothesis import strategies as st

# One moment for the whole run: what is generated from a seed does not depend on the clock any further.
NOW = datetime.now(timezone.utc).replace(microsecond=0)
NOTATIONS = ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%dT%H:%M:%S+0000", "%Y-%m-%d %H:%M"]


def moments(first, last, *words):
    """Moments so many days ahead. A pattern tells notations; it cannot tell what is soon."""
    seconds = st.integers(first * 86_400 + 3_600, last * 86_400 - 3_600)
    later = seconds.map(lambda some: NOW + timedelta(seconds=some))
    written = st.builds(lambda at, notation: at.strftime(notation), later, st.sampled_from(NOTATIONS))
    return st.sampled_from(words) | written


# The last moment to send is later than the first.
schemathesis.openapi.format("moment-within-30-days", moments(0, 29, "in 5 minutes", "tomorrow at 9am", "In 2 days"))
schemathesis.openapi.format("moment-within-60-days", moments(31, 59, "in 40 days", "in 6 weeks"))


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """`path` is left out: whether an address has a file is known by going there, and a test stays at home."""
    attachment = raw_schema["components"]["schemas"]["AttachmentRequest"]
    del attachment["properties"]["path"]
    attachment["anyOf"] = [rule for rule in attachment["anyOf"] if rule["required"] != ["path"]]


@schemathesis.hook
def filter_case(context, case):
    """Two parameters that exclude each other: OpenAPI has no words for it. tests/http/lists.rs has the case."""
    return not (case.query and "after" in case.query and "before" in case.query)
