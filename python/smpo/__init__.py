"""Scores, evaluates and gates language models by the program `smpo`, which this package brings along.

>>> import pandas, smpo
>>> pandas.DataFrame(smpo.score([{"prompt": "2 + 2?", "completion": "4", "finish_reason": "stop"}]))
>>> smpo.gate("eval/sft", "eval/dpo").decision
'fail'

`smpo.trl` watches a run of TRL; the pytest plugin has the fixture `smpo_gate`.
"""

from ._commands import Columns, Records, Verdict, evaluate, gate, score
from ._program import SmpoError, program, run

__all__ = ["Columns", "Records", "SmpoError", "Verdict", "evaluate", "gate", "program", "run", "score"]
