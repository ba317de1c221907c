"""What a GPU would make of the CUDA kernels, found out without one.

From the machine code: registers, spills, shared memory, occupancy and the instructions of the hot
loop, of every instance that launch code asks for (`survey`, `machine`). From what the emulator
counts: arithmetic and traffic of the layers of a network (`network`, `counting`), and the time that
named GPUs would need at the least (`gpus`).
"""
