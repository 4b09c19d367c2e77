"""Find lung nodules in CT: from any scan to measured findings.

Research only, not a medical device. Importing the package loads nothing heavy; take what you need from
its modules, say `from p2ch_luna.inference import NoduleDetector`.
"""

__version__ = "0.1.0"
