"""What to use for layers that exist in PyTorch or Keras and not here."""

import re

EQUIVALENTS = {
    # The same layer by another name.
    "BatchNorm1d": "use nn.BatchNorm, which takes inputs of any rank",
    "BatchNorm2d": "use nn.BatchNorm, which takes inputs of any rank",
    "BatchNorm3d": "use nn.BatchNorm, which takes inputs of any rank",
    "SyncBatchNorm": "use tinygrad_mask.distributed.SyncBatchNorm",
    "BatchNormalization": "use nn.BatchNorm",
    "LayerNormalization": "use nn.LayerNorm",
    "GroupNormalization": "use nn.GroupNorm",
    "InstanceNorm2d": "use nn.GroupNorm(channels, channels)",
    "Dense": "use nn.Linear(in_features, out_features)",
    "Conv2D": "use nn.Conv2d(in_channels, out_channels, kernel_size)",
    "Conv2DTranspose": "use nn.ConvTranspose2d",
    "DepthwiseConv2D": "use nn.Conv2d with groups=in_channels",
    "SeparableConv2D": "use nn.Conv2d with groups=in_channels, then nn.Conv2d with kernel_size=1",
    "MaxPooling2D": "use nn.MaxPool2d",
    "AveragePooling2D": "use nn.AvgPool2d",
    "GlobalAveragePooling2D": "use nn.GlobalAvgPool2d",
    "GlobalMaxPooling2D": "use x.max(axis=(1, 2)) in forward()",
    "UpSampling2D": "use nn.Upsample",
    "Resizing": "use nn.Upsample(size=...)",
    "UpsamplingNearest2d": "use nn.Upsample(mode='nearest')",
    "UpsamplingBilinear2d": "use nn.Upsample(mode='bilinear', align_corners=True)",
    "Swish": "use nn.SiLU",
    "ReLU6": "use nn.Hardtanh(0, 6)",
    "Softmax2d": "use nn.Softmax(); channels are the last axis",
    "HuberLoss": "use nn.SmoothL1Loss(beta), which is the Huber loss over beta",
    "NLLLoss": "use functions.nll_loss, or nn.CrossEntropyLoss on logits",
    "BCELoss": "use nn.BCEWithLogitsLoss on logits",
    "BinaryCrossentropy": "use nn.BCEWithLogitsLoss",
    "CategoricalCrossentropy": "use nn.CrossEntropyLoss",
    "SparseCategoricalCrossentropy": "use nn.CrossEntropyLoss",
    "MeanSquaredError": "use nn.MSELoss",
    "MeanAbsoluteError": "use nn.L1Loss",
    "LinearCrossEntropyLoss": "use nn.Linear, then nn.CrossEntropyLoss",
    "Buffer": "use Module.register_buffer(name, tensor)",
    "Model": "derive from nn.Module, or use nn.Sequential",
    "Layer": "derive from nn.Module",
    "Container": "derive from nn.Module",
    # A function or a few lines.
    "functional": "use tinygrad_mask.functions",
    "utils": "gradient clipping is in optim: optim.clip_grad_norm, optim.clip_grad_value",
    "Activation": "use the activation's layer, for instance nn.ReLU()",
    "Lambda": "derive from nn.Module and define forward()",
    "Input": "there is none; layers are told their input sizes",
    "InputLayer": "there is none; layers are told their input sizes",
    "Rescaling": "write x * scale + offset in forward()",
    "Add": "write x + y in forward()",
    "Concatenate": "use functions.concatenate in forward()",
    "Reshape": "use x.reshape(...) in forward()",
    "Unflatten": "use x.reshape(...) in forward()",
    "Permute": "use x.permute(...) in forward()",
    "ZeroPad2d": "use functions.pad in forward(), or the padding of a layer",
    "ZeroPadding2D": "use functions.pad in forward(), or the padding of a layer",
    "ConstantPad2d": "use functions.pad in forward()",
    "ReflectionPad2d": "use functions.pad in forward()",
    "ReplicationPad2d": "use functions.pad in forward()",
    "CircularPad2d": "use functions.pad in forward()",
    "Bilinear": "use products and sums in forward()",
    "Threshold": "use functions.where in forward()",
    "LogSigmoid": "write -functions.softplus(-x) in forward()",
    "Softmin": "use nn.Softmax on -x",
    "Softsign": "write x / (1 + x.abs()) in forward()",
    "Tanhshrink": "write x - x.tanh() in forward()",
    "Mish": "write x * functions.softplus(x).tanh() in forward()",
    "GLU": "write a * b.sigmoid() for the two halves in forward()",
    "Hardsigmoid": "write (x / 6 + 0.5).clip(0, 1) in forward()",
    "Hardswish": "write x * (x / 6 + 0.5).clip(0, 1) in forward()",
    "RMSNorm": "write x / ((x * x).mean(-1, keepdims=True) + eps).sqrt() in forward()",
    "CosineSimilarity": "divide both by the root of their sum of squares, and multiply",
    "PairwiseDistance": "write ((x - y) ** 2).sum(-1).sqrt() in forward()",
    "PixelShuffle": "use reshape and permute in forward(), or nn.Upsample",
    "PixelUnshuffle": "use reshape and permute in forward()",
    "ChannelShuffle": "use reshape and permute in forward()",
    "AdaptiveMaxPool2d": "use x.max(axis=(1, 2)) for one value per image, or nn.MaxPool2d",
    "Dropout2d": "multiply by a mask of shape (N, 1, 1, C), functions.dropout of ones",
    "SpatialDropout2D": "multiply by a mask of shape (N, 1, 1, C), functions.dropout of ones",
    "PReLU": "use nn.LeakyReLU, or a Parameter with functions.where",
    "SELU": "use nn.ELU",
    "CELU": "use nn.ELU",
    "RReLU": "use nn.LeakyReLU",
    "DataParallel": "use distributed.DistributedDataParallel, a process per GPU or CPU",
    # Axes that images here have not.
    "Conv1d": "use nn.Conv2d with kernel_size=(1, k) on x.reshape(N, 1, length, C)",
    "Conv1D": "use nn.Conv2d with kernel_size=(1, k) on x.reshape(N, 1, length, C)",
}

_RULES = (
    (r"Lazy(\w+)", "there is none; give the input size: nn.{0}"),
    (
        r"(RNN|LSTM|GRU)\w*|SimpleRNN|Bidirectional",
        "there is none; recurrent networks are a loop over nn.Linear in forward()",
    ),
    (
        r"Transformer\w*|MultiheadAttention|MultiHeadAttention|Attention",
        "there is none; attention is a product, softmax and a product in forward()",
    ),
    (r"(\w+)(1d|1D)", "there is none; give the input a height of 1 and use nn.{0}2d"),
    (r"(\w+)(3d|3D)", "there is none; images are two-dimensional here"),
    (r"\w+Loss\w*", "there is none; write the loss with functions of tensors"),
)

_NONE = {
    "AdaptiveLogSoftmaxWithLoss",
    "AlphaDropout",
    "CrossMapLRN2d",
    "EmbeddingBag",
    "FeatureAlphaDropout",
    "Fold",
    "FractionalMaxPool2d",
    "GaussianNoise",
    "Hardshrink",
    "LPPool2d",
    "LocalResponseNorm",
    "MaxUnpool2d",
    "Softshrink",
    "Unfold",
}


def equivalent_of(name: str) -> str | None:
    """Return what to use for a layer that does not exist here, or None for an unknown name."""
    if name in EQUIVALENTS:
        return EQUIVALENTS[name]
    if name in _NONE:
        return "there is none"
    for pattern, hint in _RULES:
        match = re.fullmatch(pattern, name)
        if match:
            return hint.format(*match.groups())
    return None
