"""The fifteen corruptions of ImageNet-C and CIFAR-10-C, batched in torch."""

from auditkit.methods.robustness.corruptions.apply import corrupt as corrupt
from auditkit.methods.robustness.corruptions.severities import FAMILIES as FAMILIES
from auditkit.methods.robustness.corruptions.severities import LARGE_FROM as LARGE_FROM
from auditkit.methods.robustness.corruptions.severities import NAMES as NAMES
from auditkit.methods.robustness.corruptions.severities import Size as Size
