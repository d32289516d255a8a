"""Batches, in an order that the seed and the epoch alone decide, read ahead by threads."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from minissl.data.dataset import DataSet

Batch = dict[str, np.ndarray]


class Loader:
    """The batches of a data set, epoch by epoch; `len(loader)` is their number in one epoch.

    A batch holds, under each key of the data set, a contiguous copy of its rows, and under "index" (B,) int64 which
    rows they are. With `workers` threads up to `workers + 1` batches are read ahead (threads are enough: copying
    rows and reading files happen outside Python's lock); with 0 the caller reads, with the same result.
    `drop_last` leaves out a last batch that is not full. `part` is (r, n) where n processes share each batch: this one
    gets the r-th of n equal parts, so that joined in order they are the batch that one process would get.
    Raises ValueError if not one batch could be filled, or shared out.
    """

    def __init__(
        self,
        dataset: DataSet,
        batch_size: int,
        seed: int = 0,
        workers: int = 1,
        drop_last: bool = True,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        if batch_size < 1 or workers < 0:
            raise ValueError(f"expected a batch size of 1 or more, and 0 or more workers; got {batch_size}, {workers}")
        if not len(dataset):
            raise ValueError(f"data set {dataset.name!r} has no rows; choose another part or more data")
        if batch_size > len(dataset) and drop_last:
            raise ValueError(
                f"a batch of {batch_size} is larger than data set {dataset.name!r} with {len(dataset)} rows; "
                f"lower the batch size to at most {len(dataset)}, or pass drop_last=False for one short batch"
            )
        parts = part[1]
        if batch_size % parts or (parts > 1 and not drop_last):
            least, most = max(1, batch_size // parts) * parts, -(-batch_size // parts) * parts
            raise ValueError(
                f"a batch of {batch_size} cannot be shared out to {parts} processes in equal parts; take a batch of "
                f"{' or '.join(map(str, sorted({least, most})))}, another number of processes, and drop_last=True"
            )
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.workers, self.drop_last, self.part = workers, drop_last, part

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Every row once, in the order of (seed, number); of each batch this process's part.

        An error in a thread is raised here, at its batch's turn.
        """
        order = np.random.default_rng((self.seed, number)).permutation(len(self.dataset))  # (N,)
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        rank, parts = self.part
        own = self.batch_size // parts
        batches = [order[start : start + self.batch_size][rank * own :][:own] for start in starts]
        return self._read_ahead(batches) if self.workers else map(self._read, batches)

    def _read(self, rows: np.ndarray) -> Batch:
        batch = {key: np.ascontiguousarray(array[rows]) for key, array in self.dataset.arrays.items()}
        return {**batch, "index": rows.astype(np.int64)}

    def _read_ahead(self, batches: list[np.ndarray]) -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()  # in the order of the batches, whichever thread finishes first
        with ThreadPoolExecutor(self.workers, "minissl-loader") as pool:
            try:
                for rows in batches:
                    waiting.append(pool.submit(self._read, rows))
                    if len(waiting) > self.workers + 1:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:  # reached too when the caller leaves its loop early; then the pool waits for its threads to end
                for future in waiting:
                    future.cancel()
