"""Studies: many prompts, seeds and conditions in one table, resumable. Make them with `dv.study`.

The rows are stored as Parquet files; pyarrow is needed (`pip install "diffvis-widget[studies]"`).
"""

from .new_study import study
from .paired import PairedComparison
from .stored_study import Study

__all__ = ["PairedComparison", "Study", "study"]
