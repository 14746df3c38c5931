"""pywa against the upstream stand-in: up, looked up, down, sent, removed, and what is refused."""
import hashlib
import sys

import httpx
from pywa import WhatsApp
from pywa.errors import WhatsAppError

base, token, number, path = sys.argv[1:]
with open(path, "rb") as file:
    content = file.read()


def client(shown):
    # The base of its URLs is not among pywa's settings: it is that of the HTTP client it has been given.
    session = httpx.Client()
    made = WhatsApp(phone_id=number, token=shown, session=session)
    session.base_url = base
    return made


wa = client(token)
media = wa.upload_media(media=content, mime_type="image/jpeg", filename="photo.jpg")
known = wa.get_media_url(media.id)
assert known.mime_type == "image/jpeg", known
assert known.sha256 == hashlib.sha256(content).hexdigest(), known
assert known.file_size == len(content), known
assert wa.get_media_bytes(known.url) == content
sent = wa.send_image(to="16505551234", image=media.id, caption="from pywa")
assert sent.id.startswith("wamid."), sent
assert wa.delete_media(media.id)
for refused, code in ((lambda: wa.get_media_url(media.id), 100), (lambda: client("wrong").get_media_url("1"), 190)):
    try:
        refused()
    except WhatsAppError as error:
        assert error.code == code, error
    else:
        raise AssertionError(f"it must be refused with {code}")
