#!/bin/sh
# Remakes the trained models from nothing: corpus, tokenizer, training, files, measurements.
# Interrupted, it goes on from the newest checkpoints. THREADS: cores to use (default: all). MEMBERS: only these.
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
case " ${MEMBERS:-sherry} " in *" sherry "*)
  if [ ! -f ../../dist/cli/main.js ]; then echo "Sherry is packed by ternion itself: run npm run build first" >&2; exit 1; fi ;;
esac
# Large tensors come and go every step; without these each one is mapped and cleared anew.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=16000000000 MALLOC_TOP_PAD_=67108864
export OMP_NUM_THREADS="$THREADS" PYTHONDONTWRITEBYTECODE=1
"$PYTHON" corpus.py --seed "$SEED" --threads "$THREADS"
for member in ${MEMBERS:-dense sherry moe draft}; do
  "$PYTHON" train.py --member "$member" --seed "$SEED" --threads "$THREADS"
  "$PYTHON" export.py --member "$member"
done
for member in ${MEMBERS:-dense sherry moe draft}; do
  heldout=
  if [ "$member" = dense ]; then heldout=--write-heldout; fi
  "$PYTHON" evaluate.py --member "$member" --threads "$THREADS" $heldout
done
echo "the models of random weights are made by: node models/recipe/random.mjs"
