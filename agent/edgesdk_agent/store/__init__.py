"""What must survive a power cut: slots, generations, the journal; and the disk they lie on."""
