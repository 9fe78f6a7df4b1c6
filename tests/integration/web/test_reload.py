"""SIGHUP: a renewed certificate is taken without a restart."""

import asyncio
import os
import signal
from pathlib import Path

from homeserver.app import serve
from homeserver.config import Listener, dev_config
from homeserver.config.listeners import TlsFiles
from homeserver.runtime.ports import settle
from homeserver.web.listener import Tls
from tests.integration.web.test_lifecycle import certificate_serial, write_certificate


async def test_a_renewed_certificate_is_taken_on_sighup_and_a_broken_one_is_not(
    database: str, tmp_path: Path
) -> None:
    files = Tls(tmp_path / "cert.pem", tmp_path / "key.pem")
    write_certificate(files, serial=1)
    listener = Listener(port=0, tls=TlsFiles(certificate=files.certificate, private_key=files.key))
    config = settle(dev_config(port=0, data=tmp_path).with_database(database).with_listeners((listener,)))
    port = config.listeners[0].port
    ready = asyncio.Event()
    serving = asyncio.create_task(serve(config, siblings=None, worker=0, ready=ready.set))
    try:
        await asyncio.wait_for(ready.wait(), 120)
        assert await certificate_serial(port) == 1
        write_certificate(files, serial=2)
        os.kill(os.getpid(), signal.SIGHUP)
        assert await until_serial(port, 2)
        files.certificate.write_text("broken")
        os.kill(os.getpid(), signal.SIGHUP)
        assert await until_serial(port, 2)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def until_serial(port: int, serial: int) -> bool:
    for _ in range(3_000):
        if await certificate_serial(port) == serial:
            return True
        await asyncio.sleep(0.02)
    return False
