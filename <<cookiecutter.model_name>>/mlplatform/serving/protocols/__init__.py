"""The protocols of predict requests: TensorFlow Serving and KServe V1, Open Inference V2."""
