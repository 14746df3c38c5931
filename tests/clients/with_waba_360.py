"""waba-360, written for 360dialog's first API, against a node: its key header, a text and a template."""
import asyncio
import sys

from waba_360 import Waba360

base, token = sys.argv[1:]


async def main():
    # The base of its URLs is a constant of the class.
    Waba360.BASE_URL = f"{base}/v1/"
    client = Waba360(token, "a_namespace")
    try:
        for sent in (
            await client.send_msg("16505551234", "from waba-360"),
            await client.send_tmpl_msg("16505551234", "a_template"),
        ):
            assert sent["messages"][0]["id"] and sent["meta"]["api_status"] == "stable", sent
    finally:
        await client.close()
    client = Waba360("wrong", "a_namespace")
    try:
        await client.send_msg("16505551234", "never sent")
    except Exception as error:
        assert error.args[1] == 401, error
    else:
        raise AssertionError("a wrong key must be refused")
    finally:
        await client.close()


asyncio.run(main())
