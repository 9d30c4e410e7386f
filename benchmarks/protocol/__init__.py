# SPDX-License-Identifier: Apache-2.0
"""How op packages are measured, without any device's code: rows, pages, gate and comparison.

A driver (benchmarks/cpu, benchmarks/gpu) times its candidates with `timing.interleaved`, collects
`rows.Row` values in a `rows.Result` and hands that to `report.finish`.
"""
