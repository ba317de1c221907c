"""The launch code of the CUDA kernels: the same for a GPU and for the emulator.

A family of kernels a file. Its functions take a `Launcher` first and arrays in C order of the
launcher's array module; they choose grids and tiles, allocate the results, and launch.
"""
