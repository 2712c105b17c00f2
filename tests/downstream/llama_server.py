"""`llama-server --model FILE [--lora FILE] --port N` with the engine of llama.cpp's server from the wheel xllamacpp."""

from __future__ import annotations

import argparse
import os
import signal

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser(prog="llama-server")
    parser.add_argument("--model", required=True)
    parser.add_argument("--lora")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.warmup = options.model, options.port, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(os.environ["OMP_NUM_THREADS"])
    if options.lora:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(options.lora, 1.0)]
    server = xllamacpp.Server(params)  # listens until it is gone
    signal.pause()
    del server


if __name__ == "__main__":
    main()
