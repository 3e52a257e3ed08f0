"""moto's SES on a free port of this machine, for tests/ses_moto.rs.

Prints the port. Then, a line in, a line out: "verify ADDRESS" makes a sender known, "sent" lists the mails as JSON.
"""

import json
import sys

from moto.server import ThreadedMotoServer
from moto.ses.models import ses_backends

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)

for line in sys.stdin:
    ses = ses_backends["123456789012"]["eu-west-3"]
    command, _, argument = line.strip().partition(" ")
    answer = None
    if command == "verify":
        ses.verify_email_identity(argument)
    elif command == "sent":
        answer = [{"id": m.id, "source": m.source, "to": m.destinations, "raw": m.raw_data} for m in ses.sent_messages]
    print(json.dumps(answer), flush=True)
