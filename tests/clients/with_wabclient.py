"""wabclient, which was written for WhatsApp's own on-premises client, against a node: login, up, down, sent, settings."""
import io
import sys
from datetime import datetime, timedelta, timezone

import requests
from wabclient import Client

base, name, secret, path = sys.argv[1:]
with open(path, "rb") as file:
    content = file.read()

client = Client(base, session=requests.Session())
token, ends = client.config.login(name, secret)
assert timedelta(days=6) < ends - datetime.now(timezone.utc) <= timedelta(days=7), ends

[media] = client.upload("/v1/media", io.BytesIO(content), "image/jpeg")["media"]
length, got = client.download_media(media["id"])
assert length == len(content) and got.read() == content
for caption in (None, "from wabclient"):
    sent = client.send_image("16505551234", "photo.jpg", io.BytesIO(content), caption)
    assert sent["messages"][0]["id"] and sent["meta"]["api_status"] == "stable", sent
assert client.config.get_settings()["webhooks"]["url"] == ""
try:
    client.download_media("463eb7ec-ff4e-4d9b-b110-1879cbd411b2")
except requests.HTTPError as error:
    assert error.response.status_code == 404 and error.response.content == b"", error
else:
    raise AssertionError("an unknown medium must be refused")
try:
    Client(base, session=requests.Session()).config.login(name, "wrong")
except requests.HTTPError as error:
    assert error.response.json()["errors"][0]["code"] == 1005, error
else:
    raise AssertionError("a wrong login must be refused")
