"""A real mail server (aiosmtpd) on loopback for the suites: encrypted from the start or by STARTTLS, with a login.

smtp.py MODE PORT CERTIFICATE KEY: MODE is `implicit` or `starttls`. Takes a mail only over an encrypted connection
from who logs in as pitwatch with the password `s3cret-word`; writes each as a line of JSON to standard output.
Refuses mails for `full@example.org` with 552 and ends by itself after ten minutes.
"""

import json
import ssl
import sys
import time

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

LIFE_SECS = 600


class Inbox:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == "full@example.org":
            return "552 5.2.2 mailbox full"
        envelope.rcpt_tos.append(address)
        return "250 yes"

    async def handle_DATA(self, server, session, envelope):
        mail = {
            "encrypted": session.ssl is not None or MODE == "implicit",
            "user": session.auth_data.login.decode(),
            "to": envelope.rcpt_tos,
            "text": envelope.content.decode("utf-8", "replace"),
        }
        print(json.dumps(mail), flush=True)
        return "250 taken"


def check(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"pitwatch", b"s3cret-word")
    return AuthResult(success=good, handled=good, auth_data=data)


MODE, PORT, CERTIFICATE, KEY = sys.argv[1:5]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
implicit = MODE == "implicit"
controller = Controller(
    Inbox(),
    hostname="127.0.0.1",
    port=int(PORT),
    ssl_context=context if implicit else None,
    tls_context=None if implicit else context,
    require_starttls=not implicit,
    auth_required=True,
    auth_require_tls=not implicit,
    authenticator=check,
)
controller.start()
print("ready", flush=True)
time.sleep(LIFE_SECS)
