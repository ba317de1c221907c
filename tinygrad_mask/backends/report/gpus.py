"""What named GPUs could do at the best: the roofline."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A GPU as its maker describes it.

    Args:
        name: What it is sold as.
        arch: The architecture that kernels are compiled for.
        bandwidth: Of its memory, bytes a second.
        flops: Operations on float32 a second, outside of tensor cores, a fused multiplication and
            addition as two, at boost clock.
        source: Where NVIDIA says so.
    """

    name: str
    arch: str
    bandwidth: float
    flops: float
    source: str

    def seconds(self, flops: float, moved: float) -> float:
        """Return the time for so many operations and bytes of memory traffic, at the least.

        The roofline (Williams, Waterman and Patterson, 2009): as if arithmetic and memory both ran
        at their full rate, one hidden behind the other.
        """
        return max(flops / self.flops, moved / self.bandwidth)


GPUS = (
    Gpu("T4", "sm_75", 320e9, 8.1e12, "NVIDIA T4 datasheet"),
    Gpu("A100", "sm_80", 2039e9, 19.5e12, "NVIDIA A100 datasheet, 80 GB SXM"),
    Gpu("RTX 3090", "sm_86", 936e9, 35.6e12, "NVIDIA Ampere GA102 GPU Architecture whitepaper"),
    Gpu("RTX 4090", "sm_89", 1008e9, 82.6e12, "NVIDIA Ada GPU Architecture whitepaper"),
    Gpu("L40S", "sm_89", 864e9, 91.6e12, "NVIDIA L40S datasheet"),
    Gpu("H100", "sm_90", 3350e9, 67e12, "NVIDIA H100 datasheet, SXM"),
    Gpu("B200", "sm_100", 8000e9, 80e12, "NVIDIA Blackwell Architecture Technical Brief, HGX B200"),
    Gpu("RTX 5090", "sm_120", 1792e9, 104.8e12, "NVIDIA RTX Blackwell GPU Architecture whitepaper"),
)
"""From NVIDIA's datasheets and whitepapers; `source` names which."""
