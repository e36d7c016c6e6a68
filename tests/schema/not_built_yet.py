"""What of the contract is not built yet. The list only shrinks, and is empty in the end."""

NOT_BUILT_YET = frozenset(
    {
        "CancelCallInput",
        "CreateBillingPortalSessionInput",
        "CreatePaymentMethodSetupInput",
        "HostedPagePayload",
        "Invoice",
        "InvoiceConnection",
        "InvoiceEdge",
        "Mutation.cancelCall",
        "Mutation.createBillingPortalSession",
        "Mutation.createPaymentMethodSetup",
        "Mutation.removePaymentMethod",
        "Mutation.requestTransfer",
        "Mutation.setDefaultPaymentMethod",
        "Mutation.startCall",
        "PaymentMethod",
        "PaymentMethodPayload",
        "RemovePaymentMethodInput",
        "RequestTransferInput",
        "SetDefaultPaymentMethodInput",
        "Transfer",
        "TransferPayload",
        "TransferStatus",
        "Workspace.invoices",
        "Workspace.paymentMethods",
    }
)
