"""Pricing promises to know what a machine-hour costs, what power it takes and how clean its electricity is, now and forecast.

It reads its tables of list prices and grid factors and the hosts' own reports (`telemetry.host.reported`), emits
`pricing.offer.changed` and `pricing.intensity.changed`, and answers `PricingService` over gRPC.
"""
