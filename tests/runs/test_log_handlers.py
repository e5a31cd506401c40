"""The log file of a run on a full disk."""

import logging

from kt_exp.runs.log_handlers import LogFile


def test_a_log_that_cannot_be_written_is_said_once_and_raises_nothing(caplog, capsys):
    logger = logging.getLogger("a_run")
    handler = LogFile("/dev/full")
    logger.addHandler(handler)
    try:
        for line in ("one", "two"):
            logger.warning(line)
    finally:
        logger.removeHandler(handler)
        handler.close()
    said = [record.message for record in caplog.records if "cannot be written" in record.message]
    assert said == ["/dev/full cannot be written: [Errno 28] No space left on device"]
    assert capsys.readouterr().err == ""
