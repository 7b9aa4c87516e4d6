"""Where other tools meet the tracker: exporters, the callbacks of trainers, and the notebook's magic.

Each file needs one library, which it loads when it is used; a missing one is told with the extra that brings it. A new exporter
is one file with a class that fills `ergonaut.tracking.exporting.Exporter`, and one line in the entry points `ergonaut.exporters`.
"""
