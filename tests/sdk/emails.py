"""What an application does with Resend's client for Python; only RESEND_API_URL is another."""

import base64
import datetime

import resend
from resend.exceptions import ResendError

resend.api_key = "any-key-works-in-development"
EMAIL = {"from": "Acme <shop@local.test>", "to": ["ada@local.test"], "subject": "Hello", "html": "<p>Hello, Ada.</p>"}


def refused(call):
    try:
        call()
    except ResendError as error:
        return error
    raise AssertionError("it was not refused")


sent = resend.Emails.send(
    {
        **EMAIL,
        "cc": "cy@local.test",
        "reply_to": "help@local.test",
        "headers": {"X-Campaign": "spring"},
        "tags": [{"name": "category", "value": "welcome"}],
        "attachments": [
            {"filename": "a.bin", "content": list(bytes([0, 255, 10]))},
            {"filename": "b.txt", "content": base64.b64encode(b"Hello").decode(), "inline_content_id": "b"},
        ],
    }
)
got = resend.Emails.get(sent["id"])
assert got["id"] == sent["id"] and got["to"] == ["ada@local.test"] and got["cc"] == ["cy@local.test"], got
assert got["last_event"] == "queued" and "Hello, Ada" in got["text"], got

naive = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).replace(tzinfo=None)
later = resend.Emails.send({**EMAIL, "scheduled_at": naive.isoformat()})
assert resend.Emails.get(later["id"])["last_event"] == "scheduled"
moved = resend.Emails.update({"id": later["id"], "scheduled_at": (naive + datetime.timedelta(hours=1)).isoformat()})
assert moved["id"] == later["id"]
assert resend.Emails.cancel(later["id"])["id"] == later["id"]
assert resend.Emails.get(later["id"])["last_event"] == "canceled"

key = {"idempotency_key": "welcome/ada"}
once = resend.Emails.send(EMAIL, key)
assert resend.Emails.send(EMAIL, key)["id"] == once["id"]
reused = refused(lambda: resend.Emails.send({**EMAIL, "subject": "Other"}, key))
assert (reused.code, reused.error_type) == (409, "invalid_idempotent_request"), reused.__dict__

batch = resend.Batch.send([EMAIL, EMAIL])
assert len(batch["data"]) == 2
some = resend.Batch.send([EMAIL, {**EMAIL, "to": ["nobody"]}], {"batch_validation": "permissive"})
assert len(some["data"]) == 1 and some["errors"][0]["index"] == 1, some

bad = refused(lambda: resend.Emails.send({**EMAIL, "to": ["nobody"]}))
assert (bad.code, bad.error_type) == (422, "validation_error") and str(bad).startswith("to "), bad.__dict__
missing = refused(lambda: resend.Emails.get("01a20465-e8e1-77c8-8dd7-5f3c3711aa36"))
assert missing.error_type == "not_found", missing.__dict__

page = resend.Emails.list({"limit": 2})
assert len(page["data"]) == 2 and page["has_more"] is True, page
print("all done")
