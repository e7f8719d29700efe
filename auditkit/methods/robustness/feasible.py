"""What a table allows: the record of :mod:`auditkit.core.feasible`, under the name that attacks know it by."""

from auditkit.core.feasible import SLACK as SLACK
from auditkit.core.feasible import BoolArray as BoolArray
from auditkit.core.feasible import Feasible as Feasible
from auditkit.core.feasible import FloatArray as FloatArray
