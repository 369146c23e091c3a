import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs the Hub; those of the download bring their own
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
