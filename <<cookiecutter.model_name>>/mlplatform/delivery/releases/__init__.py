"""What runs in the cluster: gate, deploy, promote, roll back, history."""
