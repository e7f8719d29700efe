"""A third-party analyzer: does the model give the same decision when asked twice?"""

from collections.abc import Iterable

import numpy as np

from auditkit.core.analyzer import Analyzer, Context, Params
from auditkit.core.evidence import Measurement
from auditkit.core.subject import Subject
from auditkit.stats.intervals import wilson


def _run(subject: Subject, context: Context, params: Params) -> Iterable[Measurement]:
    context.check_deadline()
    again = subject.model.predict(subject.test.inputs)
    same = float(np.mean(again == context.decisions()))
    yield Measurement(
        name="steadiness.repeat_agreement",
        value=same,
        n=subject.test.n,
        interval=wilson(same, subject.test.n),
        direction="higher",
        bounds=(0.0, 1.0),
    )


ANALYZER = Analyzer(
    name="steadiness.repeat",
    version="1.0",
    title="Steadiness",
    summary="Share of rows whose decision is the same when the model is asked again.",
    reference="auditkit-steadiness 1.0",
    needs=frozenset({"labels", "inputs"}),
    measures={"steadiness.repeat_agreement": "Share of rows with the same decision on a second call."},
    params=Params,
    run=_run,
)
