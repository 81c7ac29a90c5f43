"""OpenCV and imutils, which builds on it, or one line that says what they lack here."""

import os
import sys

# Qt would warn about fonts at every window, though it draws no text in ours
os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
# a picture is refused before it takes memory if it has more pixels; what else is wrong with one is
# said by whoever reads it
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**26))
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

try:
    import cv2 as cv2
    import imutils as imutils
except ImportError as error:
    sys.exit(
        f"[ERROR] OpenCV cannot be loaded ({error}): where a library is missing on Debian or "
        "Ubuntu, `apt-get install libgl1 libglib2.0-0 libxcb1` brings it"
    )
