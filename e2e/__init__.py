"""End-to-end tests: the chart on a real cluster, real S3, real model servers, unmodified clients."""
