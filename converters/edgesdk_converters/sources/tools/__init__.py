"""Programs that run in the environments of foreign tools; none of them imports ours."""
