"""What is behind `edgesdk.Model`: holding generations, following the slots, counting calls, sending evidence."""
