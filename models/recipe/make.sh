#!/bin/sh
# Remakes the embedded model from nothing: corpus, tokenizer, training, file, measurements.
# Interrupted, it goes on from the newest checkpoint. THREADS: cores to use (default: all).
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-/usr/bin/python3}
THREADS=${THREADS:-$(nproc)}
SEED=${SEED:-1}
missing=
for pair in torch:python3-torch numpy:python3-numpy jinja2:python3-jinja2; do
  "$PYTHON" -c "import ${pair%%:*}" 2>/dev/null || missing="$missing ${pair#*:}"
done
# Without it Debian's default BLAS makes a matrix product a hundred times slower.
ls /usr/lib/*/openblas-pthread/libblas.so.3 >/dev/null 2>&1 || missing="$missing libopenblas0-pthread"
if [ -n "$missing" ]; then
  echo "missing Debian packages:$missing" >&2
  exit 1
fi
# Large tensors come and go every step; without these each one is mapped and cleared anew.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=16000000000 MALLOC_TOP_PAD_=67108864
export OMP_NUM_THREADS="$THREADS" PYTHONDONTWRITEBYTECODE=1
"$PYTHON" corpus.py --seed "$SEED" --threads "$THREADS"
"$PYTHON" train.py --seed "$SEED" --threads "$THREADS"
"$PYTHON" export.py
"$PYTHON" evaluate.py --threads "$THREADS" --file ../tern-5m-tq2_0.gguf --write-heldout
