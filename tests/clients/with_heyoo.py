"""heyoo against the upstream stand-in: up, looked up, down, sent, removed, and what is refused."""
import os
import sys

from heyoo import WhatsApp

base, token, number, path = sys.argv[1:]
with open(path, "rb") as file:
    content = file.read()


def client(shown):
    # Its versions of the API are 14 and 15, written into the URLs.
    made = WhatsApp(shown, phone_number_id=number)
    made.base_url = made.v15_base_url = base
    made.url = f"{base}/{number}/messages"
    return made


wa = client(token)
media = wa.upload_media(path)["id"]
url = wa.query_media_url(media)
got = wa.download_media(url, "image/jpeg", os.path.join(os.environ["TMPDIR"], "from-heyoo"))
with open(got, "rb") as file:
    assert file.read() == content
sent = wa.send_image(media, "16505551234", caption="from heyoo", link=False)
assert sent["messages"][0]["id"].startswith("wamid."), sent
assert wa.delete_media(media) == {"success": True}
assert wa.query_media_url(media) is None
assert client("wrong").query_media_url(media) is None
