"""Sentences of film reviews (RT polarity, Pang and Lee 2005), an LSTM and a small transformer."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from auditkit.subjects.torch import TorchModel

DATA = Path(os.environ.get("AUDITKIT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "rt_polarity.csv.gz"
LABELS = ("negative", "positive")
LENGTH, VOCABULARY = 32, 6000


class Words:
    """A tokenizer: lower-case words and marks to ids; 0 is padding, 1 an unknown word, 2 a mask."""

    special_ids = (0, 2)
    unknown_id = 1
    mask_id = 2

    def __init__(self, texts: list[str]) -> None:
        counted = Counter(word for text in texts for word in self._split(text))
        self.ids = {word: 3 + place for place, (word, _) in enumerate(counted.most_common(VOCABULARY))}

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """Ids ``(n, 32)``; longer texts are cut, shorter ones padded."""
        rows = np.zeros((len(texts), LENGTH), dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [self.ids.get(word, 1) for word in self._split(text)[:LENGTH]]
            row[: len(ids)] = ids
        return torch.from_numpy(rows)

    def tokens(self, text: str) -> list[str]:
        """The words behind the ids of one text."""
        return self._split(text)[:LENGTH]

    @staticmethod
    def _split(text: str) -> list[str]:
        return re.findall(r"[a-z']+|[0-9]+|[^\sa-z0-9]", text.lower())


class Recurrent(nn.Module):
    """An LSTM in both directions; its states are averaged over the words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY + 3, 48, padding_idx=0)
        self.body = nn.LSTM(48, 32, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(64, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 2)``."""
        words = (ids != 0).unsqueeze(-1).float()
        states = self.body(self.drop(self.embedding(ids)))[0] * words
        return self.head(self.drop(states.sum(dim=1) / words.sum(dim=1).clamp_min(1.0)))


class Transformer(nn.Module):
    """One encoder layer with learned positions; padding is masked."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY + 3, 48, padding_idx=0)
        self.places = nn.Embedding(LENGTH, 48)
        nn.init.normal_(self.embedding.weight[1:], std=0.1)
        nn.init.normal_(self.places.weight, std=0.1)
        layer = nn.TransformerEncoderLayer(48, 4, 96, dropout=0.3, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(48, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 2)``."""
        empty = ids == 0
        empty = torch.cat([torch.zeros_like(empty[:, :1]), empty[:, 1:]], dim=1)  # a text without words keeps one place
        places = self.places(torch.arange(ids.shape[1], device=ids.device))
        states = self.body(self.drop(self.embedding(ids) + places), src_key_padding_mask=empty)
        words = (~empty).unsqueeze(-1).float()
        return self.head(self.drop((states * words).sum(dim=1) / words.sum(dim=1)))


def _splits() -> tuple[pd.DataFrame, pd.DataFrame]:
    if not DATA.is_file():
        raise FileNotFoundError(
            "this example needs rt_polarity.csv.gz; give its folder as the environment variable AUDITKIT_DATA"
        )
    table = pd.read_csv(DATA)
    table["label"] = np.array(LABELS)[table["label"]]
    order = np.random.default_rng(0).permutation(len(table))
    test, train = order[:1500], order[1500:]
    return table.iloc[train].reset_index(drop=True), table.iloc[test].reset_index(drop=True)


def train_texts() -> pd.DataFrame:
    """The sentences that the models are trained on."""
    return _splits()[0]


def test_texts() -> pd.DataFrame:
    """1,500 other sentences."""
    return _splits()[1]


def _trained(kind: type[nn.Module], epochs: int, rate: float) -> Any:
    table = train_texts()
    words = Words(list(table["text"]))
    ids, y = words(list(table["text"])), torch.from_numpy((table["label"] == "positive").to_numpy().astype(np.int64))
    torch.manual_seed(0)
    module = kind()
    optimiser = torch.optim.Adam(module.parameters(), lr=rate, weight_decay=1e-5)
    for _ in range(epochs):
        for rows in torch.randperm(len(ids)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(ids[rows]), y[rows]).backward()
            optimiser.step()
    module.zero_grad(set_to_none=True)
    return TorchModel(module.eval(), classes=LABELS, prepare=words)


def build_lstm() -> Any:
    """The trained LSTM."""
    return _trained(Recurrent, epochs=8, rate=2e-3)


def build_transformer() -> Any:
    """The trained transformer."""
    return _trained(Transformer, epochs=5, rate=1e-3)
