"""Runs the reference runtime on many cases inside one process.

Reads one JSON object per line from standard input and writes one per line to standard output,
in the order in which they are done:

    in:  {"id", "command": "read" | "check" | "discover" | "spec", "manifest", "config", "state", "streams"}
    in:  {"id", "command": "python", "values": [{"do": ..., ...}, ...]}
    out: {"id", "messages": [...], "waits": [seconds], "failure": null | {"type", "message"}}

Waits are noted and not sat out.
"""

import copy
import functools
import json
import logging
import math
import os
import sys
import tempfile

os.environ.setdefault("ENV_REQUEST_CACHE_PATH", tempfile.mkdtemp(prefix="reference-cache-"))
os.environ.setdefault("REQUEST_CACHE_PATH", os.environ["ENV_REQUEST_CACHE_PATH"])

import yaml
from airbyte_cdk.models import (
    AirbyteMessageSerializer,
    AirbyteStateMessageSerializer,
    ConfiguredAirbyteCatalog,
    ConfiguredAirbyteStream,
    DestinationSyncMode,
    SyncMode,
)
from airbyte_cdk.entrypoint import AirbyteEntrypoint
from airbyte_cdk.sources.declarative import concurrent_declarative_source
from airbyte_cdk.sources.declarative.concurrent_declarative_source import (
    ConcurrentDeclarativeSource,
)
from airbyte_cdk.utils.traced_exception import AirbyteTracedException

OUT = os.fdopen(os.dup(1), "w")
# The runtime's own output must not mix with ours.
os.dup2(2, 1)
logging.disable(logging.CRITICAL)


class Waits:
    """Stands in for the module `time` where the runtime waits before it tries again."""

    def __init__(self, module):
        self._module = module
        self.noted = []

    def sleep(self, seconds):
        if seconds:
            self.noted.append(seconds)

    def __getattr__(self, name):
        return getattr(self._module, name)


def install_waits():
    import backoff._sync
    from airbyte_cdk.sources.streams.http import rate_limiting

    waits = Waits(rate_limiting.time)
    rate_limiting.time = waits
    backoff._sync.time = waits
    return waits


def install_settings(messages):
    """Changed settings are printed as soon as they change; here they join the other messages."""
    from airbyte_cdk.sources.streams.http.requests_native_auth import oauth

    def keep(config):
        settings = json.loads(json.dumps(config, default=str))
        messages.append({"type": "CONTROL", "control": {"connectorConfig": {"config": settings}}})

    oauth.emit_configuration_as_airbyte_control_message = keep

    def printed(line):
        # A source is made twice for a read, and migrates its settings each time.
        control = json.loads(line)["control"]
        seen = [message["control"]["connectorConfig"] for message in messages]
        if control["connectorConfig"] not in seen:
            messages.append({"type": "CONTROL", "control": control})

    concurrent_declarative_source.print = printed


def plain_json(value):
    """Without what no JSON has: the printer makes null of it, and half a character is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [plain_json(item) for item in value]
    if isinstance(value, dict):
        return {plain_json(key): plain_json(item) for key, item in value.items()}
    return value


def dump(message):
    if message.type.value == "RECORD":
        # As the engine made it: the printer leaves out fields that are null.
        record = message.record
        data = plain_json(json.loads(json.dumps(record.data, default=str)))
        return {"type": "RECORD", "record": {"stream": record.stream, "data": data}}
    return json.loads(json.dumps(AirbyteMessageSerializer.dump(message), default=str))


def source_for(case, catalog=None):
    state = [AirbyteStateMessageSerializer.load(item) for item in case.get("state") or []]
    return ConcurrentDeclarativeSource(
        catalog=catalog,
        config=copy.deepcopy(case["config"]),
        state=state,
        source_config=yaml.safe_load(case["manifest"]),
    ), state


def catalog_for(source, case):
    catalog = source.discover(logging.getLogger("airbyte"), copy.deepcopy(case["config"]))
    wanted = case.get("streams")
    streams = []
    for stream in catalog.streams:
        if wanted and stream.name not in wanted:
            continue
        incremental = SyncMode.incremental in (stream.supported_sync_modes or [])
        streams.append(
            ConfiguredAirbyteStream(
                stream=stream,
                sync_mode=SyncMode.incremental if incremental else SyncMode.full_refresh,
                destination_sync_mode=DestinationSyncMode.append,
                cursor_field=stream.default_cursor_field,
            )
        )
    if wanted:
        streams.sort(key=lambda one: wanted.index(one.stream.name))
    return ConfiguredAirbyteCatalog(streams=streams)


def validate(source, config):
    # A manifest without a spec takes any settings; the entry point would look for a spec's file.
    if source._spec_component:
        # As the manifest's rules have changed them.
        config = source._config or config
        AirbyteEntrypoint.validate_connection(source.spec(logging.getLogger("airbyte")), config)


def run(case):
    logger = logging.getLogger("airbyte")
    command = case["command"]
    messages = []
    install_settings(messages)
    failure = None
    try:
        source, state = source_for(case)
        if command == "spec":
            messages.append({"type": "SPEC", "spec": json.loads(json.dumps(source.spec(logger).connectionSpecification))})
        elif command == "discover":
            catalog = source.discover(logger, copy.deepcopy(case["config"]))
            from airbyte_cdk.models import AirbyteMessage, Type

            messages.append(dump(AirbyteMessage(type=Type.CATALOG, catalog=catalog)))
        elif command == "check":
            validate(source, case["config"])
            result = source.check(logger, copy.deepcopy(case["config"]))
            messages.append({"type": "CONNECTION_STATUS", "connectionStatus": {"status": result.status.value}})
        else:
            validate(source, case["config"])
            catalog = catalog_for(source, case)
            source, state = source_for(case, catalog)
            for message in source.read(logger, copy.deepcopy(case["config"]), catalog, state):
                if message.type.value in ("RECORD", "STATE", "TRACE", "CONTROL"):
                    messages.append(dump(message))
    except AirbyteTracedException as error:
        failure = {"type": error.failure_type.value, "message": str(error.message)}
    except Exception as error:  # every failure is an outcome to be compared
        failure = {"type": "system_error", "message": f"{type(error).__name__}: {error}"}
    return messages, failure


@functools.cache
def component_schema():
    # Reading it takes longer than using it.
    return concurrent_declarative_source.get_declarative_component_schema()


def well_formed(manifest):
    from airbyte_cdk.sources.declarative.concurrent_declarative_source import (
        validate_manifest,
    )
    from airbyte_cdk.sources.declarative.parsers.manifest_component_transformer import (
        ManifestComponentTransformer,
    )
    from airbyte_cdk.sources.declarative.parsers.manifest_reference_resolver import (
        ManifestReferenceResolver,
    )
    from jsonschema.exceptions import ValidationError

    resolved = ManifestReferenceResolver().preprocess_manifest(manifest)
    resolved.setdefault("type", "DeclarativeSource")
    whole = ManifestComponentTransformer().propagate_types_and_parameters("", resolved, {})
    try:
        validate_manifest(whole, component_schema())
    except ValidationError:
        return False
    return True


def python(values):
    """Evaluates what property tests ask for; an error's value is null."""
    import ast
    import datetime

    from airbyte_cdk.sources.declarative.datetime.datetime_parser import DatetimeParser
    from airbyte_cdk.sources.declarative.interpolation import InterpolatedString
    from isodate import parse_duration

    parser = DatetimeParser()

    def plain(value):
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        return value

    def one(ask):
        kind = ask["do"]
        if kind == "literal":
            return {"value": plain(ast.literal_eval(ask["text"]))}
        if kind == "evaluate":
            string = InterpolatedString.create(ask["text"], parameters={})
            return {"value": plain(string.eval(ask.get("config") or {}))}
        if kind == "parse":
            moment = parser.parse(ask["text"], ask["format"])
            return {"value": moment.isoformat()}
        if kind == "format":
            moment = datetime.datetime.fromisoformat(ask["moment"])
            return {"value": parser.format(moment, ask["format"])}
        if kind == "duration":
            moment = datetime.datetime.fromisoformat(ask["moment"])
            return {"value": (moment + parse_duration(ask["text"])).isoformat()}
        if kind == "manifest":
            return {"value": well_formed(yaml.safe_load(ask["text"]))}
        raise ValueError(kind)

    answers = []
    for ask in values:
        try:
            answer = one(ask)
            json.dumps(answer, allow_nan=False)
        except Exception:
            answer = None
        answers.append(answer)
    return answers


def main():
    waits = install_waits()
    for line in sys.stdin:
        case = json.loads(line)
        if case["command"] == "python":
            result = {"id": case["id"], "values": python(case["values"])}
        else:
            waits.noted = []
            messages, failure = run(case)
            result = {"id": case["id"], "messages": messages, "waits": waits.noted, "failure": failure}
        OUT.write(json.dumps(result) + "\n")
        OUT.flush()


main()
