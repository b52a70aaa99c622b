"""Run a Home Assistant core with only its MQTT integration: `hass.py FOLDER PORT`, by the Python that has it.

Each line on standard input gets one line of JSON as answer: all devices, entities and states. The commands are `tell`,
and `call DOMAIN SERVICE ENTITY`, which calls a service first. Home Assistant's warnings go to standard error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

from homeassistant import bootstrap, config_entries, core, loader
from homeassistant.helpers import device_registry, entity_registry
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import load_yaml


async def serve(folder: Path, port: int) -> None:
    """Connect to the broker, load FOLDER/automations.yaml where it exists, then answer until standard input ends."""
    (folder / "configuration.yaml").touch()
    hass = core.HomeAssistant(str(folder))
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    for unused in ("http", "file_upload"):  # the integration requires them for uploaded certificates only
        hass.config.components.add(unused)
    assert await async_setup_component(hass, "homeassistant", {})
    await hass.async_start()
    broker = config_entries.ConfigEntry(
        domain="mqtt",
        title="broker",
        data={"broker": "127.0.0.1", "port": port},
        options={},
        entry_id="broker",
        source="user",
        unique_id=None,
        version=1,
        minor_version=2,
        discovery_keys={},
        subentries_data=None,
    )
    await hass.config_entries.async_add(broker)
    await hass.async_block_till_done()
    assert broker.state is config_entries.ConfigEntryState.LOADED, broker.state
    automations = folder / "automations.yaml"
    if automations.exists():
        wanted = await hass.async_add_executor_job(load_yaml, str(automations))
        assert await async_setup_component(hass, "automation", {"automation": wanted})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, *rest = line.split()
        if command == "call":
            domain, service, entity = rest
            await hass.services.async_call(domain, service, {"entity_id": entity}, blocking=True)
        await hass.async_block_till_done()
        print(json.dumps(_snapshot(hass), default=str), flush=True)
    await hass.async_stop()


def _snapshot(hass: Any) -> dict[str, Any]:
    devices = device_registry.async_get(hass).devices.values()
    entities = entity_registry.async_get(hass).entities.values()
    return {
        "devices": {d.name: {"ids": sorted(i for _, i in d.identifiers), "model": d.model} for d in devices},
        "entities": {e.unique_id: e.entity_id for e in entities},
        "states": {s.entity_id: {"state": s.state} | dict(s.attributes) for s in hass.states.async_all()},
    }


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
