# The page in a container: an ordinary user, nothing written outside /tmp.
#
#   docker build -t covid-mm .
#   docker run --read-only --tmpfs /tmp:mode=1777,size=1g --cap-drop ALL \
#     --security-opt no-new-privileges -p 127.0.0.1:7860:7860 covid-mm
#
# Research use only, not for diagnosis.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1

WORKDIR /app
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock && python -m compileall -q -j 0 /usr/local/lib/python3.11/site-packages

COPY app.py ./
COPY covid_mm ./covid_mm
COPY checkpoints ./checkpoints
COPY results/results.json ./results/
RUN python -m compileall -q covid_mm app.py && useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin reader

USER 1000:1000
# Matplotlib, Keras and Hugging Face's library look for a home that can be written
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib KERAS_HOME=/tmp/keras HF_HOME=/tmp/huggingface COVID_MM_HOST=0.0.0.0

EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/health', timeout=4)"]
ENTRYPOINT ["python", "app.py"]
