"""What an autoscaling policy would have done to a load that was measured: violations and cost."""
