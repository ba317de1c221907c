"""Load on the entrance page's server: clients with a camera, and then photographs one by one.

    python benchmarks/serving_load.py [--seconds 120] [--clients 8] [--uploads 1000]

A server is started on a free port of this machine and ended afterwards. Each client sends a frame
of 640 x 480 pixels every fifth of a second, whether or not the last one has been answered. Printed
are the latency of the answered frames, from the sending to the answer, the frames that were
dropped, and the memory of the server before, between and after. Exits with 1 if anything was
refused or failed.
"""

import argparse
import io
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from websockets.sync.client import connect

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "detect.jpg"
FRAMES_PER_SECOND = 5


def jpeg(width, height):
    with Image.open(PICTURE) as image:
        file = io.BytesIO()
        image.convert("RGB").resize((width, height)).save(file, "JPEG", quality=85)
    return file.getvalue()


def memory(process):
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise ValueError("/proc says nothing about memory")


class Client(threading.Thread):
    def __init__(self, address, frame, seconds):
        super().__init__()
        self.address, self.frame, self.seconds = address, frame, seconds
        self.latencies = []
        self.sent = 0
        self.failures = []

    def run(self):
        times = []
        with connect(self.address, proxy=None) as socket:
            json.loads(socket.recv(timeout=60))
            start = time.perf_counter()
            receiver = threading.Thread(target=self.receive, args=(socket, times), daemon=True)
            receiver.start()
            while (now := time.perf_counter()) < start + self.seconds:
                times.append(now)
                socket.send(self.frame)
                self.sent += 1
                next_frame = start + self.sent / FRAMES_PER_SECOND
                time.sleep(max(next_frame - time.perf_counter(), 0))
            time.sleep(5)  # for the last answer

    def receive(self, socket, times):
        for text in socket:
            answer = json.loads(text)
            if answer["kind"] == "frame":
                self.latencies.append(time.perf_counter() - times[answer["frame"]])
            else:
                self.failures.append(answer)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--uploads", type=int, default=1000)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "tinygrad_mask", "serve", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[0]
        photograph = jpeg(400, 278)
        httpx.post(f"{address}api/detect", content=photograph, timeout=120, trust_env=False)
        print(f"memory at the start: {memory(server):.0f} MiB")

        live = f"ws{address.removeprefix('http')}api/live"
        clients = [
            Client(live, jpeg(640, 480), arguments.seconds) for _ in range(arguments.clients)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        latencies = np.array([one for client in clients for one in client.latencies])
        sent = sum(client.sent for client in clients)
        failures = [failure for client in clients for failure in client.failures]
        if len(latencies):
            median, late = np.percentile(latencies, [50, 99]) * 1000
            print(
                f"{len(clients)} clients, {arguments.seconds:g} s: {sent} frames sent, "
                f"{len(latencies)} answered ({len(latencies) / arguments.seconds:.1f} a second), "
                f"{sent - len(latencies)} dropped; latency {median:.0f} ms median, "
                f"{late:.0f} ms 99th percentile"
            )
        print(f"memory after the frames: {memory(server):.0f} MiB")

        start = time.perf_counter()
        with httpx.Client(timeout=120, trust_env=False) as http:
            for _ in range(arguments.uploads):
                answer = http.post(f"{address}api/detect", content=photograph)
                if answer.status_code != 200:
                    failures.append(answer.text)
        rate = arguments.uploads / (time.perf_counter() - start)
        print(f"{arguments.uploads} uploads: {rate:.1f} a second")
        print(f"memory after the uploads: {memory(server):.0f} MiB")
        print(f"{len(failures)} failures {failures[:3] or ''}")
        return 1 if failures or not len(latencies) else 0
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


if __name__ == "__main__":
    sys.exit(main())
