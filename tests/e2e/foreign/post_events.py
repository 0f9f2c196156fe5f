import sys
import urllib.request

from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

url, token = sys.argv[1:]


def event(name):
    attributes = {"type": name, "source": "/python", "datacontenttype": "application/json"}
    return CloudEvent(attributes=attributes, data={"id": name, "city": "Zürich"})


def post(headers, body):
    request = urllib.request.Request(url, data=body, headers={**headers, "authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 202, answer.status


for message in to_binary_event(event("binary.one")), to_structured_event(event("structured.one")):
    post(message.headers, message.body)

# The SDK writes no batches of its own; a batch is an array of what it writes as structured events.
batch = [to_structured_event(event(name)).body for name in ("batch.one", "batch.two")]
post({"content-type": "application/cloudevents-batch+json"}, b"[" + b",".join(batch) + b"]")
