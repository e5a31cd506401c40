"""Models behind one protocol: `protocol.py` says what a stage may ask, `factory.py` builds one."""
