"""The watch: reports become series, series become alarms, alarms of many missions are pooled (docs/WATCH.md).

Core, without I/O: series, intake, rules, pooling, cadence, board, backtest and what they use. Edge: register, cli.
"""
