"""What policies are told of traffic: sums of what was sampled, by client, and whether classes hold packets back."""
