"""The family: what each member looks like, what it starts from and which stages of the corpus it sees.

A stage is (name in the corpus, first step of it, steps); knots are (step, share of the peak rate) with straight
lines between. Everything shares the tokenizer and the template.
"""
from dataclasses import dataclass

from model import Shape


@dataclass
class Member:
    title: str
    about: str
    shape: Shape
    stages: list  # (corpus stage, first step, steps of 8192 tokens)
    knots: list
    files: dict  # type of the matrices -> file name
    start: str = ""  # the member whose trained weights it begins from
    lr: float = 0.04  # of the layers' matrices (Muon)
    lr_other: float = 0.006  # of embedding, norms and router (Adam)

    @property
    def steps(self):
        return sum(n for _, _, n in self.stages)


MEMBERS = {
    "dense": Member(
        "Tern 5M", "A small ternary llama trained on generated tales and tasks", Shape(),
        [("short", 0, 1000), ("middle", 0, 700), ("long", 0, 550), ("finish", 0, 600), ("last", 0, 200)],
        # warm-up, plateau, decay, and a second, lower rise for the last stages, in which the formal tasks weigh more
        [(0, 0.0), (80, 1.0), (1375, 1.0), (2250, 0.22), (2270, 0.45), (2550, 0.235), (3050, 0.0)],
        {"TQ2_0": "tern-5m-tq2_0.gguf", "F16": "tern-5m-f16.gguf"}),
    "sherry": Member(
        "Tern 5M Sherry", "The ternary llama with one zero in every four weights (Sherry), for STQ1_0", Shape(weights="sherry"),
        [("long", 350, 200), ("finish", 200, 400)],
        [(0, 0.05), (20, 0.4), (250, 0.4), (600, 0.0)],
        {"STQ1_0": "tern-5m-sherry-stq1_0.gguf"}, start="dense"),
    "moe": Member(
        "Tern MoE 6M", "A small ternary mixture of 16 experts trained on generated tales and tasks",
        Shape(layers=4, ff=512, kv_heads=2, experts=16, experts_used=2, expert_ff=256, dense_lead=3),
        [("short", 0, 600), ("middle", 0, 200), ("long", 0, 200)],
        [(0, 0.0), (60, 1.0), (550, 1.0), (1000, 0.0)],
        {"TQ2_0": "tern-moe-6m-tq2_0.gguf", "F16": "tern-moe-6m-f16.gguf"}),
    "draft": Member(
        "Tern draft", "Drafts tokens for Tern 5M", Shape(dim=128, ff=384, layers=2, heads=2, kv_heads=2, weights="float"),
        [("short", 0, 900), ("middle", 0, 400), ("long", 0, 150), ("finish", 0, 250)],
        [(0, 0.0), (60, 1.0), (900, 1.0), (1700, 0.0)],
        {"Q8_0": "tern-draft-q8_0.gguf"}),
}
