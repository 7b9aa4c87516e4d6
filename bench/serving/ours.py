"""The gateway as `ergonaut up` runs it: a real NATS, keys, metrics, signed models; and a bare echo on its HTTP server."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import grpc
import psutil
from contestants import PEERS, Absent, Contestant, family, seconds_until_right
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from subjects import Model
from wires import GRPC_PATH, INFER_PATH, Door, checked

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.api.inference.v1.inference_pb2_grpc import ModelServiceStub
from ergonaut.signing import sign
from ergonaut_common.testing import ServiceProcess, free_port, nats_server

OURS, ECHO = "ergonaut", "echo"
DEPLOY_SECONDS_MAX = 30.0
LEAVE_SECONDS_MAX = 20.0
CHUNK_BYTES = 512 * 1024


class Gateway(Contestant):
    """Ours. Everything that it offers is on, unless `settings` say otherwise."""

    def __init__(self, model: Model, folder: Path, name: str = OURS, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(name, model)
        self._folder, self._settings = folder / f"{name}-{model.name}", dict(settings or {})
        self._stack = ExitStack()
        self._service: ServiceProcess | None = None
        self._http_port = free_port()

    def start(self) -> None:
        """Deploy the model to it, then start it anew, as it starts on any later day."""
        nats = self._stack.enter_context(nats_server(self._folder / "nats"))
        private_key, public_key = _signing_keys(self._folder)
        settings = {
            "ERGONAUT_NATS_URL": nats,
            "ERGONAUT_GATEWAY_HTTP_ADDRESS": f"127.0.0.1:{self._http_port}",
            "ERGONAUT_GATEWAY_SIGNATURE_POLICY": "require",
            "ERGONAUT_GATEWAY_SIGNATURE_KEYS": str(public_key),
            **self._settings,
        }
        self._service = ServiceProcess("gateway", self._folder, settings)
        self._service.start()
        try:
            asyncio.run(self._service.wait_healthy())
            self._deploy(self._service, sign(self.model.path, private_key))
        except (TimeoutError, AssertionError) as error:
            raise Absent(str(error)) from error
        except grpc.RpcError as error:
            raise Absent(f"the model was not deployed: {error.code().name}: {error.details()}") from error
        self.again()

    def again(self) -> float:
        """Stop it and start it anew; seconds from the command to the first right answer."""
        service = self._service
        assert service is not None, "it was started once"
        self._leave(service)
        key = ("Authorization", f"Bearer {service.keys['default']}")
        self.doors = {wire: Door(self.model, wire, self._http_port, INFER_PATH, (key,)) for wire in ("json", "binary")}
        began = time.perf_counter()
        service.start()
        process = service._process
        assert process is not None, "it was started above"
        self.ready_seconds = seconds_until_right(self.doors["json"], process, began, service.log)
        self.doors["grpc"] = self._grpc_door(service, key)
        return self.ready_seconds

    def _grpc_door(self, service: ServiceProcess, key: tuple[str, str]) -> Door:
        """The port that HTTP has too, where gRPC is answered there; else the one that is gRPC's own."""
        shared = Door(self.model, "grpc", self._http_port, GRPC_PATH, (key,))
        because = checked(shared)
        if not because:
            return shared
        print(f"  gRPC is asked on its own port, since on that of HTTP: {because}", flush=True)
        return Door(self.model, "grpc", int(service.address.rpartition(":")[2]), GRPC_PATH, (key,))

    def _deploy(self, service: ServiceProcess, signature: str) -> None:
        content = self.model.path.read_bytes()

        def messages() -> Iterator[pb.DeployModelRequest]:
            yield pb.DeployModelRequest(name="m", signature_bundle=signature)
            for at in range(0, len(content), CHUNK_BYTES):
                yield pb.DeployModelRequest(chunk=content[at : at + CHUNK_BYTES])

        with grpc.insecure_channel(service.address) as channel:
            deploy = ModelServiceStub(channel).DeployModel
            deploy(messages(), metadata=service.metadata(), timeout=DEPLOY_SECONDS_MAX)

    def stop(self) -> None:
        """End it and its NATS."""
        if self._service is not None:
            self.go_on()
            self._service.kill()
        self._stack.close()

    @staticmethod
    def _leave(service: ServiceProcess) -> None:
        if service.lives:
            service.terminate()
            try:
                service.exit_code(LEAVE_SECONDS_MAX)
            except TimeoutError as error:
                raise Absent(str(error)) from error

    def processes(self) -> list[psutil.Process]:
        """The gateway with its workers; NATS is not a part of it."""
        return family(self._service._process) if self._service else []


def _signing_keys(folder: Path) -> tuple[Path, Path]:
    """A private and a public key, as files; those of an earlier start, where there was one."""
    private, public = folder / "private.pem", folder / "public.pem"
    if private.exists():
        return private, public
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.write_bytes(key.private_bytes(*form))
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, spki))
    return private, public


class Echo(Contestant):
    """The server that carries the gateway's HTTP door, with a handler that gives every caller the same bytes."""

    def __init__(self, model: Model, folder: Path) -> None:
        super().__init__(ECHO, model)
        self._log = folder / "echo.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Give it a whole answer to the first row, so that as much is read and written as by the gateway."""
        port = free_port()
        outputs = [
            {"name": "label", "datatype": "INT64", "shape": [1], "data": [int(self.model.answers[0].argmax())]},
            {"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "data": self.model.answers[0].tolist()},
        ]
        body = json.dumps({"model_name": "m", "model_version": "1", "id": "r", "outputs": outputs})
        self.doors = {"json": Door(self.model, "json", port, INFER_PATH)}
        command = [sys.executable, str(PEERS / "echo_server.py"), str(port), body]
        began = time.perf_counter()
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        self.ready_seconds = seconds_until_right(self.doors["json"], self._process, began, self._log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def processes(self) -> list[psutil.Process]:
        return family(self._process)
